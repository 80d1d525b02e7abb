"""The client of Oracle's APIs: signing, sending, rate limits and retries. No other package talks to Oracle."""
