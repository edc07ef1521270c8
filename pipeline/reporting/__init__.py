"""What a run has to show: pictures, figures and one page that holds them all."""
