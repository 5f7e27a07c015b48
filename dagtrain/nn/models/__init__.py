"""Networks that everyone knows, as models of this package's layers: `MLP`, `LeNet5`, `ResNet`, `GoogLeNet`.

They are functions that return an `nn.Sequential` or `nn.Model`, whose layers can be looked at, shared and connected further.
"""

from dagtrain.nn.models.googlenet import GoogLeNet
from dagtrain.nn.models.lenet import LeNet5
from dagtrain.nn.models.perceptron import MLP
from dagtrain.nn.models.resnet import ResNet

__all__ = ["MLP", "GoogLeNet", "LeNet5", "ResNet"]
