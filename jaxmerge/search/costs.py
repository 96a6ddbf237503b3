"""What searches cost, in forward passes of one candidate over the search data."""

# Forward and backward pass, with the layers merged again. The forward pass gives the likelihood.
GRADIENT = 3
# The same of every example by itself: as many products, and the merged weights' gradients example by example.
JACOBIAN = 3
