"""Parts of the commands that a CI system calls for a step: sh and gitlab."""
