"""Evaluation during a run: average precision, the best weights so far, and a report to look at."""

from collections.abc import Callable

from otalab.data.coco import CocoDataset
from otalab.detect.checkpoint import save_model
from otalab.detect.distributed import from_first
from otalab.detect.evaluate import coco_metrics, detect
from otalab.detect.limits import evaluation_batch
from otalab.detect.run_folder import Run, RunLog, write_text
from otalab.files import to_json, write_json


class RunEvaluator:
    """Evaluates the weights of a run, and writes the results into the run's folder.

    log:         None in all processes but the first, which alone writes files
    description: what `save_model` needs besides the weights
    """

    def __init__(self, run: Run, valset: CocoDataset, log: RunLog | None, description: dict) -> None:
        self.run, self.valset, self.log, self.description = run, valset, log, description
        self.batch_size = evaluation_batch(valset.sizes, run.model.image_size, run.config.batch_size)

    def evaluate(self, epoch: int, remark: Callable[[str], None] | None = None) -> dict[str, float]:
        """Evaluate the run at its current step, and return the metrics.

        Every process takes a share of the images, and the first writes detections.json and report.html, and
        best.safetensors if the AP is higher than all before or not a number. It passes one line of text to `remark`.
        If the log has the metrics of this step already, because the run stopped after that evaluation, only report.html
        is written.
        """
        run, log = self.run, self.log
        metrics = from_first(log.evaluated(run.step) if log else None)
        if metrics is None:
            results = detect(run.ema_model, self.valset, self.batch_size, progress=False)
            metrics = coco_metrics(self.valset.ground_truth(), results)
            if log:
                if not metrics["AP"] <= log.best_ap():
                    self.save("best.safetensors")
                write_text(run.out / "detections.json", [to_json(results)])
                log.write({"step": run.step, "epoch": epoch, "metrics": metrics})
                if remark:
                    remark(f"epoch {epoch + 1}: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}")
        if log:
            self.report()
        return metrics

    def finish(self, metrics: dict[str, float]) -> None:
        """Write the final weights and metrics of a finished run."""
        if self.log:
            self.save("model.safetensors")
            write_json(self.run.out / "metrics.json", metrics)

    def save(self, name: str) -> None:
        """Write the weights that are evaluated into the run's folder."""
        save_model(self.run.out / name, self.run.ema_model, batch_size=self.run.config.batch_size, **self.description)

    def report(self) -> None:
        """Write report.html."""
        from otalab.viz.run_report import write_run_report  # imported late: otalab.viz builds on this package

        write_run_report(self.run.out, self.valset)
