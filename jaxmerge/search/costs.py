"""What searches cost, in forward passes of one candidate over the search data."""

# Forward and backward pass, with the layers merged again. The forward pass gives the likelihood.
GRADIENT = 3
