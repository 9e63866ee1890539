"""The configuration: its values with every default, their reader and their bounds.

`settings` has Config, all settings of the daemon, and imports the values of single tables from
`folder_tables`, `network_profiles` and `etc_names`. `toml_file` reads a file into a Config, and
`value_rules` bounds its values. `listen_address` reads the addresses in the key `listen`.
"""
