"""Fast CPU versions of some of the network's equations. Import them from here; see `switch` for when they run."""

from mfhca_train.model.cpu.layer_sum import weighted_sum
from mfhca_train.model.cpu.lstm import bilstm
from mfhca_train.model.cpu.mf import multi_spatial_fusion
from mfhca_train.model.cpu.switch import PLAIN, is_faster

__all__ = ["PLAIN", "bilstm", "is_faster", "multi_spatial_fusion", "weighted_sum"]
