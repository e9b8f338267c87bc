"""Sources beside Postgres tables: a query that is asked again and again, TCP, UDP, and what MQTT clients publish."""
