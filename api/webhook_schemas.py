"""What goes over the wire of webhooks' calls."""

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
    secret: str = Field(description="`whsec_` and the key of the signatures; the only time that it can be seen")


class WebhookOut(BaseModel):
    id: UUID
    clinic_id: UUID
    url: str
    created_at: datetime
    disabled_at: datetime | None = Field(
        description="after a day in which it took nothing, or when it said that it is gone"
    )
    pending: int = Field(description="messages that wait for their next attempt")
    delivered: int = Field(description="in the last month")
    given_up: int = Field(description="in the last month")
    last_error: str | None

    @classmethod
    def of(cls, known: KnownWebhook) -> "WebhookOut":
        """Return what of a webhook goes over the wire."""
        return cls.model_validate(known, from_attributes=True)


class WebhookListOut(BaseModel):
    webhooks: list[WebhookOut]
