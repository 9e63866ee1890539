"""HTTP: connections, heads and bodies of messages, problem documents, delivery, and routes."""
