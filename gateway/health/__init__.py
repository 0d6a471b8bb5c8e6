"""What the gateway knows of its databases: who answers, who is primary, how far replicas are."""
