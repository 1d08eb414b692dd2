"""How a federation learns: strategies, the server node, the round loop and its history."""
