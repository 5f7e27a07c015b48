"""How far more workers pay: a model of the time of a step, fed by what is measured on this machine."""
