"""Who asks, for whom, how often, and with which parameters; pages of the web kept out."""
