"""A storm: a real node under load, whose actors and bus are killed all the time, and the record of what happened."""
