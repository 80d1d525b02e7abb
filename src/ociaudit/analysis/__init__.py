"""Analysis of exported events: statistics, detections, the summary, SQL queries and the HTML report."""
