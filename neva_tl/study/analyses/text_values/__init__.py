"""Text-judged runs of one model joined: several values and seeds as one result, and the goals that it meets."""
