"""The capacity check: how many owners a deployment carries, what fills up first, and what helps."""
