"""A translator of this package in ONNX Runtime: the same graph, another engine."""

import numpy as np
import onnxruntime

from tfprune.translation.encoding import padded

OPSET = 17


def convert(translator, path, quantized=None):
    """Writes a translator as an ONNX file from ids to ids, by greedy search.

    Args:
        translator: The translator, without a shortlist.
        path: The file.
        quantized: Where to write a second one whose products have int8 weights.
    """
    import tf2onnx
    from keras import ops
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from tfprune.translation.exporting import id_function

    function = id_function(translator, ops.take)
    handlers = {"XlaDynamicUpdateSlice": (written_in_place, [])}
    tf2onnx.convert.from_function(
        function,
        function.input_signature,
        opset=OPSET,
        custom_op_handlers=handlers,
        output_path=str(path),
    )
    if quantized is not None:
        quantize_dynamic(str(path), str(quantized), weight_type=QuantType.QInt8)


def written_in_place(graph, node, name, args):
    """What a step writes at its position; tf2onnx does not know the operation."""
    whole, part, starts = node.input
    shapes = graph.get_shape(whole), graph.get_shape(part)
    (axis,) = [i for i, (n, m) in enumerate(zip(*shapes, strict=True)) if n != m]
    number = graph.make_const(f"{name}_axis", np.array([axis])).name
    start = graph.make_node("Gather", [starts, number]).output[0]
    size = graph.make_const(f"{name}_size", np.array(shapes[1])).name
    places = graph.make_node("Expand", [start, size]).output[0]
    dtypes, made = [graph.get_dtype(node.output[0])], [graph.get_shape(node.output[0])]
    graph.remove_node(node.name)
    graph.make_node(
        "ScatterElements",
        [whole, places, part],
        attr={"axis": axis},
        name=node.name,
        outputs=node.output,
        dtypes=dtypes,
        shapes=made,
    )


class Engine:
    """Translates ids with a file of `convert`.

    Args:
        path: The file.
        threads: Threads of ONNX Runtime.
    """

    def __init__(self, path, threads=1):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        (self.source,) = [each.name for each in self.session.get_inputs()]

    def words(self, ids):
        """The translation of one sentence as ids."""
        return self.session.run(None, {self.source: padded([ids])})[0][0].tolist()
