"""Schemas of the webhooks' routes."""

from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.store.webhooks import KnownWebhook


class WebhookPath(BaseModel):
    webhook_id: str = Field(description="the webhook's id")


class WebhookIn(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    url: str = Field(
        max_length=2000, description="an https address", json_schema_extra={"pattern": "^https?://[!-~]+$"}
    )


class WebhookMadeOut(BaseModel):
    id: UUID
    url: str
    secret: str = Field(description="`whsec_` followed by the signing key; shown in this answer only")


class WebhookOut(BaseModel):
    id: UUID
    clinic_id: UUID
    url: str
    created_at: datetime
    disabled_at: datetime | None = Field(
        description="set after a day without a successful delivery, or when it answered that it is gone (410)"
    )
    pending: int = Field(description="messages waiting for their next attempt")
    delivered: int = Field(description="in the last month")
    given_up: int = Field(description="in the last month")
    last_error: str | None

    @classmethod
    def of(cls, known: KnownWebhook) -> "WebhookOut":
        """Return a webhook as JSON shows it."""
        return cls.model_validate(known, from_attributes=True)


class WebhookListOut(BaseModel):
    webhooks: list[WebhookOut]
