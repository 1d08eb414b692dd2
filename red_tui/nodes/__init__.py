"""What a node is: roles, ids, states, templates and the table that holds them."""
