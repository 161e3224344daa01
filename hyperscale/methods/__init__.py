"""The methods: how a primary network is told about the conditioning input I."""
