"""Gates over structures: applied in place, trained with the model, folded into its weights."""

from tfprune.gates.attaching import Gates, attach, detach, gates_of
from tfprune.gates.chosen_subnetwork import subnetworks_of
from tfprune.gates.dynamic import DynamicGate, Size
from tfprune.gates.gate import Gate
from tfprune.gates.hard_concrete import HardConcrete
from tfprune.gates.mask import Mask
from tfprune.gates.movement import BlockScores, MovementScores, straight_through
from tfprune.gates.subnetworks import Subnetworks

__all__ = [
    "BlockScores",
    "DynamicGate",
    "Gate",
    "Gates",
    "HardConcrete",
    "Mask",
    "MovementScores",
    "Size",
    "Subnetworks",
    "attach",
    "detach",
    "gates_of",
    "straight_through",
    "subnetworks_of",
]
