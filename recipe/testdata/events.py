"""Writes events.golden, what TensorBoard's own writer makes of two steps: python events.py (tensorboard 2.20.0)."""
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

def step(wall, n, values):
    tags = [summary_pb2.Summary.Value(tag=t, simple_value=v) for t, v in values]
    return event_pb2.Event(wall_time=wall, step=n, summary=summary_pb2.Summary(value=tags))

events = [
    event_pb2.Event(wall_time=1700000000.25, file_version="brain.Event:2"),
    step(1700000001.5, 1, [("train/loss", 1.25), ("train/grad_norm", 0.5), ("train/learning_rate", 1e-3), ("train/num_tokens", 300.0),
                           ("train/tokens_per_second", 150.0), ("train/ce", 0.75), ("train/kl", 0.5)]),
    step(1700000003.75, 300, [("train/learning_rate", 0.0), ("train/num_tokens", 90000.0), ("eval/loss", 2.5), ("eval/top1", 0.875)]),
]
with open("events.golden", "wb") as f:
    w = RecordWriter(f)
    for e in events:
        w.write(e.SerializeToString())
    w.flush()
