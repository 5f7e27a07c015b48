"""How far more workers pay: a model of the time of a step, from measurements on this machine."""
