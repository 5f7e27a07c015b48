"""A network as a picture, in two views: its neurons, and its layers as blocks; and its table of layers.

Run: python examples/a4_network_picture.py [FOLDER FOR THE PICTURES]
"""

import sys
from pathlib import Path

import dagtrain as dt


def main(folder: Path) -> int:
    layers = [dt.nn.Dense(128, "relu"), dt.nn.Dropout(0.2), dt.nn.Dense(32, "relu"), dt.nn.Dense(10)]
    model = dt.nn.Sequential(layers, input_shape=(64,))
    summary = model.summary()
    print(summary)
    columns = dt.nn.layers_for_drawing(model)
    for view in ("neurons", "blocks"):
        path = folder / f"network-{view}.svg"
        dt.draw.draw_network(columns, path, view=view)
        print(f"picture: {path}")
    return summary.parameters


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
