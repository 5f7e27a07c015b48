"""Learning without labels: restricted Boltzmann machines, deep belief networks, autoencoders.

machine = unsupervised.RBM(100, seed=0).fit(x, epochs=50)
machine.pseudo_likelihood(x)
"""

from dagtrain.unsupervised.autoencoders import Autoencoder, VariationalAutoencoder
from dagtrain.unsupervised.dbn import DBN
from dagtrain.unsupervised.rbm import RBM, pseudo_likelihood

__all__ = ["DBN", "RBM", "Autoencoder", "VariationalAutoencoder", "pseudo_likelihood"]
