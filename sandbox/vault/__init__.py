"""The secrets server of the demo and a real OpenBao, both of which speak the API of Vault."""
