"""What greylag knows of Kubernetes: the edge to an API server, its objects as plain JSON, and how an object is followed."""
