"""Who may do what: sign-in, headers, hosts, rate limits."""
