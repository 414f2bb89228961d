from tests.helpers.layer_cases import double_precision

__all__ = ["double_precision"]
