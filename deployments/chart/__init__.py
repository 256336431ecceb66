"""The Helm charts (`greylag`, a library, and `service`, an application chart that uses it), and what is written from them and for them."""
