"""Questions, menus, forms and the wave planner, over the screen."""
