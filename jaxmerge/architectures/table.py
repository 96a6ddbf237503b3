"""One table per architecture: what every parameter is called, here and in the checkpoint.

Loading, export, abstract shapes, placement and the tests derive from these rows. Tensors keep the layout
(`[out, in]` for matrices) and the values they have in the checkpoint, so that a round trip only moves bytes.

Parameters are held in a flat dictionary `{path: array}`. The path of a parameter that occurs once a layer starts with
`layers.` and its array has the layer as leading axis: `layers.self_attn.q_proj.weight` is `[L, out, in]` and stands for
the checkpoint's `model.layers.0.self_attn.q_proj.weight`, `model.layers.1. ...`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

LAYERS = "layers."


@dataclass(frozen=True)
class Parameter:
    """A row of the table.

    path: name in the flat dictionary.
    hf: name in the checkpoint, with `{layer}` where the row is stacked.
    shape: shape of one layer's tensor (without the leading layer axis).
    axes: logical axes of that shape, one name each, that placement maps to axes of the mesh.
    """

    path: str
    hf: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]

    @property
    def stacked(self) -> bool:
        return self.path.startswith(LAYERS)

    def names(self, num_layers: int) -> list[str]:
        """The checkpoint's names of this row, in layer order; a single name for a row that is not stacked."""
        return [self.hf.format(layer=i) for i in range(num_layers)] if self.stacked else [self.hf]


@dataclass(frozen=True)
class Table:
    """All parameters of one model, with its layer count."""

    parameters: tuple[Parameter, ...]
    num_layers: int

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __getitem__(self, path: str) -> Parameter:
        for parameter in self.parameters:
            if parameter.path == path:
                return parameter
        raise KeyError(path)

    def shape(self, parameter: Parameter) -> tuple[int, ...]:
        """Shape of the array in the flat dictionary, with the layer axis where the row is stacked."""
        return (self.num_layers, *parameter.shape) if parameter.stacked else parameter.shape

    def axes(self, parameter: Parameter) -> tuple[str, ...]:
        """The logical axes of that array."""
        return ("layers", *parameter.axes) if parameter.stacked else parameter.axes

    def names(self) -> list[str]:
        """Every tensor name that a checkpoint of this model has."""
        return [name for parameter in self.parameters for name in parameter.names(self.num_layers)]
