"""Heads: a projection of what a model makes of a whole text, or of each of its tokens."""

from __future__ import annotations

from torch import Tensor, nn
from transformers import PreTrainedModel

from scaling.finetune.losses import task_loss
from scaling.method import TaskLossRule
from scaling.train.attention import attention_options, padding_mask


def body_of(model: PreTrainedModel) -> PreTrainedModel:
    """The model without what it was pretrained to predict with, whose weights would not learn.

    ValueError for an encoder-decoder, which is there to write texts.
    """
    if model.config.is_encoder_decoder:
        raise ValueError(f"this kind of task wants an encoder or a decoder alone, got {model.config.model_type!r}")
    body: PreTrainedModel = model.base_model
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    return body


def hidden_states(body: PreTrainedModel, inputs: Tensor, mask: Tensor | None, types: Tensor | None) -> Tensor:
    """What a body makes of each token [n, T, h]. mask [n, T]: 1 where a token is real; None: everywhere.

    What stands after a text changes nothing for its tokens.
    """
    seen = None if mask is None else padding_mask(body, mask)
    options = attention_options(body, inputs.shape[1], seen)
    if types is not None:
        options["token_type_ids"] = types
    hidden: Tensor = body(input_ids=inputs, **options).last_hidden_state
    return hidden


def new_linear(body: PreTrainedModel, num_outputs: int) -> nn.Linear:
    """A projection of what the body makes; the weights as large as its own were at first."""
    linear = nn.Linear(body.config.hidden_size, num_outputs)
    nn.init.normal_(linear.weight, std=body.config.initializer_range)
    nn.init.zeros_(linear.bias)
    return linear


def mean_of_text(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over the real tokens of each text [n, h], of its tokens [n, T, h].

    On SST-2 (2,000 rows, hidden 128, 2 layers, two seeds, noise 1 %) a decoder of 1M tokens had an accuracy of 0.679
    with it and 0.644 with its last token; an untrained encoder 0.691 with it and with its first token, and 0.700 with
    a tanh layer after it.
    """
    if mask is None:
        return hidden.mean(1)
    is_real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * is_real).sum(1) / is_real.sum(1).clamp(min=1)


class TargetLoss(nn.Module):
    """The loss of each target [n, P] by a rule, from logits [n, C] or [n, P, C] and targets [n, P]."""

    class_weights: Tensor | None

    def __init__(self, rule: TaskLossRule, class_weights: Tensor | None) -> None:
        super().__init__()
        self.rule = rule
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return task_loss(self.rule, logits, targets, self.class_weights)


class TextModel(nn.Module):
    """A model that gives the loss of texts [n, 1], or their logits [n, C].

    loss: from logits [n, C] and targets [n, 1] to losses [n, 1].
    """

    def __init__(self, model: PreTrainedModel, num_outputs: int, dropout: float, loss: nn.Module) -> None:
        super().__init__()
        self.model = body_of(model)
        self.dropout = nn.Dropout(dropout)
        self.head = new_linear(self.model, num_outputs)
        self.loss = loss

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, targets: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        text = mean_of_text(hidden_states(self.model, inputs, mask, types), mask)
        logits: Tensor = self.head(self.dropout(text))
        return logits if targets is None else self.loss(logits, targets)


class TokenModel(nn.Module):
    """A model that gives the loss of each token [n, T], or its logits [n, T, C].

    loss: from logits [n, T, C] and targets [n, T] to losses [n, T].
    """

    def __init__(self, model: PreTrainedModel, num_outputs: int, dropout: float, loss: nn.Module) -> None:
        super().__init__()
        self.model = body_of(model)
        self.dropout = nn.Dropout(dropout)
        self.head = new_linear(self.model, num_outputs)
        self.loss = loss

    def forward(
        self, inputs: Tensor, mask: Tensor | None = None, targets: Tensor | None = None, types: Tensor | None = None
    ) -> Tensor:
        logits: Tensor = self.head(self.dropout(hidden_states(self.model, inputs, mask, types)))
        return logits if targets is None else self.loss(logits, targets)
