"""Programs made of the rooms below: each returns what it did and prints through the console it is given."""
