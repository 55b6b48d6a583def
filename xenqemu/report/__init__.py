"""A build and what came of it as one HTML page: facts gathered from what is kept, and rendered."""
