"""What operators see and do: views of the state, the console over the wire protocol, HTTP."""
