"""Parts for CI systems that load modules of their own."""
