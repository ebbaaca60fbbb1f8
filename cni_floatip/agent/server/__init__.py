"""The agent's socket: connections, the calls that come over them, and how a call is cancelled."""
