"""Other people's own test suites, run directly and through the gateway, and compared.

``make test-drivers`` runs them; pytest collects nothing here. See docs/compatibility.md.
"""
