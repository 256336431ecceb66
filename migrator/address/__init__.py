"""Connection addresses: built, percent-encoded, parsed and shown without secrets; and the names of each environment's databases."""
