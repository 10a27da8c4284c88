"""The bot's own sentences to customers, in the language of their question where we have it. Pure."""

PHRASES: dict[str, dict[str, str]] = {
    "placeholder": {
        "en": "_Looking into it …_",
        "de": "_Ich sehe nach …_",
        "fr": "_Je regarde …_",
        "es": "_Lo estoy mirando …_",
    },
    "queued": {
        "en": "_You are no. {place} in the queue …_",
        "de": "_Sie sind Nr. {place} in der Warteschlange …_",
        "fr": "_Vous êtes n° {place} dans la file …_",
        "es": "_Es el n.º {place} de la cola …_",
    },
    "thinking": {"en": "is thinking …", "de": "denkt nach …", "fr": "réfléchit …", "es": "está pensando …"},
    "stopped": {
        "en": "_Stopped._",
        "de": "_Angehalten._",
        "fr": "_Arrêté._",
        "es": "_Detenido._",
    },
    "doubt": {
        "en": "I am not sure about this one, and I would rather not guess. Please ask in other words, or talk to a person.",
        "de": "Hier bin ich nicht sicher und möchte nicht raten. Bitte fragen Sie anders, oder sprechen Sie mit einem Menschen.",
        "fr": "Je ne suis pas sûr ici et je préfère ne pas deviner. Reformulez la question, ou parlez à une personne.",
        "es": "No estoy seguro de esto y prefiero no adivinar. Pregunte de otra forma o hable con una persona.",
    },
    "too_slow": {
        "en": "Sorry, I could not answer this: it took too long. Please ask again in a minute, or talk to a person.",
        "de": "Das hat leider zu lange gedauert. Bitte fragen Sie in einer Minute noch einmal, oder sprechen Sie mit einem Menschen.",
        "fr": "Désolé, cela a pris trop de temps. Réessayez dans une minute, ou parlez à une personne.",
        "es": "Lo siento, tardó demasiado. Pregunte de nuevo en un minuto o hable con una persona.",
    },
    "failed": {
        "en": "Sorry, I could not answer this: {reason}. Please ask again in a minute, or talk to a person.",
        "de": "Das konnte ich leider nicht beantworten. Bitte fragen Sie in einer Minute noch einmal, oder sprechen Sie mit einem Menschen.",
        "fr": "Désolé, je n'ai pas pu répondre. Réessayez dans une minute, ou parlez à une personne.",
        "es": "Lo siento, no pude responder. Pregunte de nuevo en un minuto o hable con una persona.",
    },
    "footer": {
        "en": "AI answer · {speaker} · rate with 👍 or 👎",
        "de": "KI-Antwort · {speaker} · bewerten Sie mit 👍 oder 👎",
        "fr": "Réponse d'IA · {speaker} · notez avec 👍 ou 👎",
        "es": "Respuesta de IA · {speaker} · valore con 👍 o 👎",
    },
    "person": {
        "en": "Talk to a person",
        "de": "Mit einem Menschen sprechen",
        "fr": "Parler à une personne",
        "es": "Hablar con una persona",
    },
    "stop": {"en": "Stop", "de": "Anhalten", "fr": "Arrêter", "es": "Detener"},
    "called": {
        "en": "I have called a person. They will answer here; I stay silent until then.",
        "de": "Ich habe einen Menschen gerufen. Die Antwort kommt hier; bis dahin schweige ich.",
        "fr": "J'ai appelé une personne. Elle répondra ici ; d'ici là je me tais.",
        "es": "He llamado a una persona. Responderá aquí; hasta entonces guardo silencio.",
    },
    "told_team": {
        "en": "I have told the support team. They will write to you; I stay silent here until then.",
        "de": "Ich habe dem Support-Team Bescheid gegeben. Es schreibt Ihnen; bis dahin schweige ich hier.",
        "fr": "J'ai prévenu l'équipe d'assistance. Elle vous écrira ; d'ici là je me tais ici.",
        "es": "He avisado al equipo de soporte. Le escribirá; hasta entonces guardo silencio aquí.",
    },
    "noted": {
        "en": "I have left a call for the team in this thread. Whoever reads it will answer here; I stay silent until then.",
        "de": "Ich habe dem Team hier im Thread einen Hinweis hinterlassen. Wer ihn liest, antwortet hier; bis dahin schweige ich.",
        "fr": "J'ai laissé un appel à l'équipe dans ce fil. Qui le lira répondra ici ; d'ici là je me tais.",
        "es": "He dejado un aviso para el equipo en este hilo. Quien lo lea responderá aquí; hasta entonces guardo silencio.",
    },
    "no_team": {
        "en": "I cannot reach the team from here. Please write to them as you usually do; I go on answering you here.",
        "de": "Von hier aus erreiche ich das Team nicht. Bitte schreiben Sie ihm wie gewohnt; ich antworte Ihnen hier weiter.",
        "fr": "Je ne peux pas joindre l'équipe d'ici. Écrivez-lui comme d'habitude ; je continue à vous répondre ici.",
        "es": "Desde aquí no puedo avisar al equipo. Escríbale como de costumbre; yo sigo respondiéndole aquí.",
    },
    "excess_user": {
        "en": "I answer at most {limit} questions a minute for one person, and this one was more. Please ask it again in a minute.",
        "de": "Ich beantworte höchstens {limit} Fragen je Minute und Person. Bitte fragen Sie in einer Minute noch einmal.",
        "fr": "Je réponds à {limit} questions par minute et par personne au plus. Reposez-la dans une minute.",
        "es": "Respondo como máximo {limit} preguntas por minuto y persona. Pregunte de nuevo en un minuto.",
    },
    "excess_channel": {
        "en": "I answer at most {limit} questions a minute in one channel, and this one was more. Please ask it again in a minute.",
        "de": "Ich beantworte höchstens {limit} Fragen je Minute und Kanal. Bitte fragen Sie in einer Minute noch einmal.",
        "fr": "Je réponds à {limit} questions par minute et par canal au plus. Reposez-la dans une minute.",
        "es": "Respondo como máximo {limit} preguntas por minuto y canal. Pregunte de nuevo en un minuto.",
    },
    "why": {
        "en": "Thank you, that is noted. What was wrong with it?",
        "de": "Danke, das ist notiert. Was war daran nicht gut?",
        "fr": "Merci, c'est noté. Qu'est-ce qui n'allait pas ?",
        "es": "Gracias, queda anotado. ¿Qué no estaba bien?",
    },
    "reason_wrong": {"en": "Wrong", "de": "Falsch", "fr": "Faux", "es": "Incorrecto"},
    "reason_outdated": {"en": "Outdated", "de": "Veraltet", "fr": "Dépassé", "es": "Desactualizado"},
    "reason_incomplete": {"en": "Incomplete", "de": "Unvollständig", "fr": "Incomplet", "es": "Incompleto"},
    "reason_tone": {"en": "Tone", "de": "Ton", "fr": "Ton", "es": "Tono"},
    "reason_person": {
        "en": "Needed a person",
        "de": "Ein Mensch war nötig",
        "fr": "Il fallait une personne",
        "es": "Hacía falta una persona",
    },
    "reason_noted": {
        "en": "Thank you: “{reason}” is noted.",
        "de": "Danke: „{reason}“ ist notiert.",
        "fr": "Merci : « {reason} » est noté.",
        "es": "Gracias: «{reason}» queda anotado.",
    },
    "reason_call": {
        "en": "“{person}” under the answer calls one now.",
        "de": "„{person}“ unter der Antwort ruft jetzt einen.",
        "fr": "« {person} » sous la réponse en appelle une maintenant.",
        "es": "«{person}» debajo de la respuesta llama a una ahora.",
    },
    "reason_gone": {
        "en": "There is no 👎 of yours on that answer any more, so there is nothing to explain.",
        "de": "Dort steht kein 👎 mehr von Ihnen; es gibt nichts zu begründen.",
        "fr": "Il n'y a plus de 👎 de vous sur cette réponse : rien à expliquer.",
        "es": "Ya no hay un 👎 suyo en esa respuesta: no hay nada que explicar.",
    },
}


def phrase(name: str, language: str | None, **values: object) -> str:
    """The sentence in this language, English where it has none."""
    forms = PHRASES[name]
    return forms.get(language or "en", forms["en"]).format(**values)
