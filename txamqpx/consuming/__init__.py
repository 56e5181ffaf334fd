"""What stands behind a consumer: its terms, its handlers at work, and what becomes of deliveries."""
