"""All servers that the demo and the tests start, from package registries alone: no container, no daemon that stays behind."""
