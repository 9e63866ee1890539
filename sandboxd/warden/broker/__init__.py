"""The broker of the network, as the warden starts it and hands runs to it."""
