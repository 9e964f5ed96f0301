"""Models that learn against an opponent."""
