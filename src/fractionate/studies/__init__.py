"""Plans of several runs: a teacher, students by several methods and seeds, a table and a page."""
