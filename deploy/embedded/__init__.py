"""The servers that the local stack starts when none is given by URL, and the supervisor that keeps them alive."""
