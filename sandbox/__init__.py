"""Every server that the demo and the tests start, out of package registries alone: no container, no daemon left behind."""
