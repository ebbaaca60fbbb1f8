"""The agent's socket: its connections, the calls over them, and the cancellation of a call."""
