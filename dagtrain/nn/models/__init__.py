"""Networks that everyone knows, as models of this package's layers.

`MLP`, `LeNet5`, `ResNet` and `GoogLeNet` are functions that return an `nn.Sequential` or `nn.Model`, whose layers can be looked at, shared
and connected further. `LanguageModel`, `TransformerLM`, `SequenceToSequence` and `Captioner` are layers whose state `dagtrain.text.Decoder`
keeps.
"""

from dagtrain.nn.models.captions import Captioner
from dagtrain.nn.models.googlenet import GoogLeNet
from dagtrain.nn.models.language import LanguageModel
from dagtrain.nn.models.lenet import LeNet5
from dagtrain.nn.models.perceptron import MLP
from dagtrain.nn.models.resnet import ResNet
from dagtrain.nn.models.transformer import TransformerLM
from dagtrain.nn.models.translation import SequenceToSequence

__all__ = ["MLP", "Captioner", "GoogLeNet", "LanguageModel", "LeNet5", "ResNet", "SequenceToSequence", "TransformerLM"]
