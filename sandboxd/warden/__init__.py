"""The privileged half of the daemon: root, standard library only, no file or console bytes."""
