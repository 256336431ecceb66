"""Connection addresses: built, percent-encoded, parsed and shown without secrets; what environments and databases are called."""
